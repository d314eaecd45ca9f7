"""Workflows: building a graph of jobs, sending it at once, watching it, and what can be done with it."""

from procrastinate_deps.workflows.builder import WorkflowBuilder, growing, new_workflow
from procrastinate_deps.workflows.handle import Workflow
from procrastinate_deps.workflows.links import Chain, ExistingJob, chain, group
from procrastinate_deps.workflows.nodes import Node

__all__ = ["Chain", "ExistingJob", "Node", "Workflow", "WorkflowBuilder", "chain", "group", "growing", "new_workflow"]
