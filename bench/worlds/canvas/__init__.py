"""UnlearnCanvas (Zhang et al., NeurIPS 2024): 50 painting styles by 20 objects, two released judges of both."""
