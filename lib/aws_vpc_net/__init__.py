"""Helper modules of fence_aws_vpc_net.

Imports have one direction: agent -> actions, queries, preflight -> runner -> operations (ec2, instances,
security_groups, tags, identity) -> pure core -> errors. Start reading at ``core.off``: every decision on which
safety depends is in ``core``.
"""
