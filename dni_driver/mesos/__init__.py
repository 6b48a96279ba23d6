# SPDX-License-Identifier: Apache-2.0
"""What dni shares with Mesos and DC/OS: their JSON, the addresses that their containers have, and CNI.

`dni-cni` imports this package at each start of a container: nothing is imported here.
"""
