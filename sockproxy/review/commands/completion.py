"""`sockproxy audit completion SHELL`: print what makes a shell complete these commands."""

from __future__ import annotations

import argparse

BASH = """# eval "$(sockproxy audit completion bash)"
_sockproxy_audit() {{
    local word=${{COMP_WORDS[COMP_CWORD]}}
    [ "${{COMP_WORDS[1]}}" = audit ] || return
    if [ "$COMP_CWORD" = 2 ]; then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    case ${{COMP_WORDS[COMP_CWORD-1]}} in
        --user) COMPREPLY=($(compgen -u -- "$word")) ;;
        --verdict) COMPREPLY=($(compgen -W "allow deny" -- "$word")) ;;
        --format) COMPREPLY=($(compgen -W "text jsonl csv ocsf" -- "$word")) ;;
        --since|--until) COMPREPLY=($(compgen -W "today yesterday 1h 24h 7d" -- "$word")) ;;
        --operation) COMPREPLY=($(compgen -W "{operations}" -- "$word")) ;;
        --log-dir|--anchors|--config|-o|--output|--html) COMPREPLY=($(compgen -f -- "$word")) ;;
        *) case ${{COMP_WORDS[2]}} in
{cases}
        esac ;;
    esac
}}
complete -o default -F _sockproxy_audit sockproxy
"""
ZSH = "autoload -U +X bashcompinit && bashcompinit\n"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shell", choices=("bash", "zsh"))


def main(options: argparse.Namespace) -> int:
    """Run the command."""
    from sockproxy.review import COMMANDS, _parser
    from sockproxy_helpers.api import operations

    cases = []
    for name in COMMANDS:
        sub = next(action for action in _parser(name)._actions if isinstance(action, argparse._SubParsersAction))
        words = " ".join(text for action in sub.choices[name]._actions for text in action.option_strings)
        cases.append(f'            {name}) COMPREPLY=($(compgen -W "{words}" -- "$word")) ;;')
    names = " ".join(sorted({row.name for row in operations.load()}))
    text = BASH.format(commands=" ".join(COMMANDS), operations=names, cases="\n".join(cases))
    print((ZSH if options.shell == "zsh" else "") + text, end="")
    return 0
