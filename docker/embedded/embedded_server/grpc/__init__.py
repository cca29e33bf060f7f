"""The gRPC interface: PredictionService, ModelService, and gRPC's health service."""
