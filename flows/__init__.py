"""Prefect flows over Atlas: ingest, features, materialise, train, gate, deploy, and all in one."""
