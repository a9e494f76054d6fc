"""Where the pictures come from: one file a data set."""
