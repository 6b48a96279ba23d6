# SPDX-License-Identifier: Apache-2.0
"""The Mesos side: CNI's configuration files, endpoints and plugin.

`dni-cni` imports this package at each start of a container: nothing is imported here.
"""
