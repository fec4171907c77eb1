"""What a file of cases is made of, and how it is written down."""

import json


class Book:
    """A file: a host, configurations of it, cases."""

    def __init__(self, name, about, configurations, host=(), direct_access=(), exception_sets_log2=6, hash_key=None):
        self.name = name
        self.head = {"about": about, "host": list(host)}
        if direct_access:
            self.head["directAccess"] = list(direct_access)
        self.head["exceptionSetsLog2"] = exception_sets_log2
        if hash_key:
            self.head["hashKey"] = [f"{word:016x}" for word in hash_key]
        self.configurations = configurations
        self.cases = []

    def case(self, name, *steps, configuration=None):
        """Adds a case; it begins with an empty exception table, under the first configuration unless said otherwise."""
        configuration = configuration or next(iter(self.configurations))
        assert configuration in self.configurations, configuration
        assert all(name != other["name"] for other in self.cases), f"{self.name}: two cases are called {name!r}"
        self.cases.append({"name": name, "configuration": configuration, "steps": list(steps)})

    def text(self):
        """The file: a line for each service and for each step."""
        lines = ["{"]
        lines += [f'  {json.dumps(key)}: {json.dumps(value)},' for key, value in self.head.items()]
        lines.append('  "configurations": {')
        lines += _joined(
            [[f'    {json.dumps(name)}: [', *_joined([[_line(service)] for service in services]), "    ]"]
             for name, services in self.configurations.items()])
        lines += ["  },", '  "cases": [']
        lines += _joined(
            [[f'    {{"name": {json.dumps(case["name"])}, "configuration": {json.dumps(case["configuration"])}, "steps": [',
              *_joined([[_line(step)] for step in case["steps"]]), "    ]}"] for case in self.cases])
        return "\n".join([*lines, "  ]", "}", ""])


def _line(value):
    return f"      {json.dumps(value)}"


def _joined(blocks):
    """Lines of blocks, with a comma behind each but the last."""
    lines = []
    for index, block in enumerate(blocks):
        lines += block[:-1] + [block[-1] + ("," if index + 1 < len(blocks) else "")]
    return lines
