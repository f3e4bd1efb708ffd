"""Helper modules of fence_aws_vpc_net.

Imports point one way: agent -> actions (off, on, queries) -> operations (ec2, instances,
security_groups, tags, identity) -> pure core (rules, backup_tags, settings) -> errors.
Start reading at ``rules``: it holds every decision that safety hangs on.
"""
