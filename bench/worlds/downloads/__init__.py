"""Downloads of published data sets and models: their addresses, the transfer, and what to do if it is impossible."""
