"""One module per command of `usersim`."""
