"""The command `mutua`: one module per command, loaded only when it is called."""
