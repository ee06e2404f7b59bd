"""What is allowed: the policy, the model of each body and query, and the rules of the three scopes."""
