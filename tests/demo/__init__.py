# SPDX-License-Identifier: Apache-2.0
"""`make demo`: dni on one lab host, step by step, for somebody who sees it for the first time."""
