"""Is an artifact's answer the trained model's, and is that good enough?"""
