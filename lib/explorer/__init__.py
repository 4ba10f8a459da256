"""An interactive page on rankers and losses, in one HTML string that needs no server and no network."""
