# SPDX-License-Identifier: Apache-2.0
"""What is said between dni and Mesos: CNI's configurations and wishes, DC/OS's values."""
