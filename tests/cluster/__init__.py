"""A cluster of real corosync and Pacemaker on this machine, with the emulator of tests/ec2 as AWS.

fabric     network namespaces on a bridge: one for each node, one for AWS, one for the storage that nodes write to
dataplane  the security groups of the emulator as nftables rules on that bridge, with connection tracking
cloud      the objects in the emulator: subnets, groups, the nodes' instances, their instance metadata
node       a node: namespaces with a process 1, which can boot, lose power, and run commands
config     the initial files of a node: corosync.conf and the CIB; pcs creates the fence device
bed        all of these together: set-up, removal, recovery
observe    the state that Pacemaker reports: members, resources, fence history
storage    the host that nodes write to, which records which node wrote when
"""
