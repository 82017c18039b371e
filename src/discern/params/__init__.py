"""The one definition of every parameter: `load.load` reads params.yaml against `pipeline.Params`."""
