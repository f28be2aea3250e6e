"""What officers do at the centre: come in, propose, approve, launch, stop, halt, decide on ceilings. The control API and the local command line both call it."""
