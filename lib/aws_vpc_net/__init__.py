"""Helper modules of fence_aws_vpc_net.

Imports point one way: agent -> actions, queries, preflight -> runner -> operations (ec2, instances, security_groups,
tags, identity) -> pure core -> errors. Start reading at ``core.off``: every decision that safety hangs on is in
``core``.
"""
