"""What is run by the Pythons of the peers, each in its own environment: no part of ours imports these."""
