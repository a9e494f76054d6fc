from hypothesis import settings

# How long an example takes says more about who else uses the machine than about the code.
settings.register_profile("logitserve", deadline=None)
settings.load_profile("logitserve")
