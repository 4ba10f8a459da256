"""What is ranked: collections, the first stage, groups, files of teacher scores."""
