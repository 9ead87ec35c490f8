"""An example of a package that extends ddpm-bench."""
