"""What officers do at the centre: launch, stop, propose, approve, come in. The control API and the local command line both call it."""
