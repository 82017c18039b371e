"""The methods, one file or folder each: what `discern.params` describes is built here."""
