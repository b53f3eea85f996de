"""From a checkpoint to the graph that is deployed: export, surgery, and the proof that nothing changed."""
