"""``mq completion``: a script that completes commands, options and channels."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mq.cli.exits import COULD_NOT_RUN, Failure
from mq.cli.help import examples

COMPLETION_VARIABLE = "_MQ_COMPLETE"


@click.command(
    epilog=examples(
        "mq completion bash > ~/.local/share/bash-completion/completions/mq",
        "mq completion zsh > ~/.zfunc/_mq",
        "mq completion fish > ~/.config/fish/completions/mq.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    Load it once with `eval "$(mq completion bash)"`, or keep it in a file as below.
    """
    script = get_completion_class(shell)
    if script is None:
        raise Failure(f"this version of click has no completion for {shell}", code=COULD_NOT_RUN)
    click.echo(script(ctx.find_root().command, {}, "mq", COMPLETION_VARIABLE).source())
