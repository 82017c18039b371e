"""The one definition of every parameter, without torch: `load.load` reads params.yaml and methods/."""
