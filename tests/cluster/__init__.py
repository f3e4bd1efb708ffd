"""A cluster of real corosync and Pacemaker on this machine, with the emulator of tests/ec2 as its AWS.

fabric     network namespaces on a bridge: one for each node, one for AWS, one for the storage that nodes write to
dataplane  the security groups of the emulator as nftables rules on that bridge; what is tracked, what is cut
cloud      the emulator and what is in it: subnets, groups, the nodes' instances, their instance metadata
node       a node: namespaces with a pid 1 of their own, which can boot, lose power, and be entered
config     corosync.conf and the CIB that nodes start with; the fence device is made by pcs
bed        all of these together: up, down, back to health
observe    what Pacemaker says: members, resources, fence history
storage    the host that nodes write to: who wrote when
"""
