import os

from hypothesis import settings

# How long an example takes says more about who else uses the machine than about the code.
# In CI the examples are always the same, so that a run judges the change and not its luck;
# everywhere else they are new each time.
settings.register_profile("logitserve", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("logitserve")
