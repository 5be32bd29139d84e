#!/usr/bin/python
# SPDX-License-Identifier: Apache-2.0
"""Runs `relinkd align` as an Ansible module: check mode, diff and "changed" as Ansible has them."""

import json

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: relinkd_align
short_description: Make masteruser and masterauth equal to what the secret store says
description:
  - Runs C(relinkd align) on the host of a Redis or Valkey replica. The password never passes through Ansible.
  - The primary has to accept the password before it is set, or the task fails and nothing is changed.
options:
  replica:
    description: Which instance of relinkd's configuration; all that have a secret store when left out.
    type: str
  config:
    description: Path of relinkd's configuration.
    type: path
    default: /etc/relinkd/config.toml
  binary:
    description: The program, looked up in PATH when it has no slash.
    type: str
    default: relinkd
"""

EXAMPLES = r"""
- relinkd_align:
- relinkd_align:
    replica: cache
"""


def main():
    module = AnsibleModule(
        argument_spec={
            "replica": {"type": "str"},
            "config": {"type": "path", "default": "/etc/relinkd/config.toml"},
            "binary": {"type": "str", "default": "relinkd"},
        },
        supports_check_mode=True,
    )
    binary = module.params["binary"]
    if "/" not in binary:
        binary = module.get_bin_path(binary, required=True)
    argv = [binary, "--config", module.params["config"], "align", "--json"]
    if module.check_mode:
        argv.append("--check")
    if module.params["replica"]:
        argv.append(module.params["replica"])
    rc, out, err = module.run_command(argv)
    try:
        told = json.loads(out)
    except ValueError:
        module.fail_json(msg=err.strip() or "relinkd align printed no JSON", rc=rc)
    result = {key: told[key] for key in ("changed", "msg", "diff", "actions", "replicas") if key in told}
    if told.get("failed"):
        module.fail_json(rc=rc, **result)
    module.exit_json(rc=rc, **result)


if __name__ == "__main__":
    main()
