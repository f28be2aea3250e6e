"""How sites reach the officers: invitations, the enrolment door, and the pile of requests behind it."""
