"""Log Docker in to ECR: `aws ecr get-login-password | docker login`, joined by a pipe and no shell.

Run as a program, with the region and the registry as its arguments. The password goes from one program into the other:
it stands in no argument, no file of ours and no message.
"""

import subprocess
import sys


def main(arguments: list[str]) -> int:
    """The exit status of the first of the two that failed, else 0. What they say goes to standard error."""
    region, registry = arguments
    ask = ["aws", "ecr", "get-login-password", "--region", region]
    told = ["docker", "login", "--username", "AWS", "--password-stdin", registry]
    with subprocess.Popen(ask, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as asked:
        logged = subprocess.run(told, stdin=asked.stdout, stdout=subprocess.DEVNULL, check=False)
    return asked.returncode or logged.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
