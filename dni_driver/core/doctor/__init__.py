# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with a host, judged by what was seen of it."""
