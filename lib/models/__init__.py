"""One file an architecture; `load` opens any trained folder."""
