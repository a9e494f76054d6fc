"""The folder of models: find, prove, load, watch, swap and unload."""
