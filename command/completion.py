"""`quorumlog completion bash | zsh | fish`: lets a shell ask this command what may come next.

The script only asks, by `quorumlog __complete`: so it never lags behind the command, and topics, nodes and
profiles are completed, too. Each line of the answer is a word, a tab and a description; or there is one line,
:files or :directories, which the shell knows best.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from quorumlog.command.output import be_quiet
from quorumlog.command.parser import examples

COMPLETE = "__complete"
_LOOK_UP_TIMEOUT_MS = 1_000  # somebody has pressed a key and waits

_BASH = """\
# bash completion of quorumlog. In ~/.bashrc: source <(quorumlog completion bash)
_quorumlog() {
    local answer word description
    COMPREPLY=()
    answer=$("${COMP_WORDS[0]}" __complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null) || return
    case $answer in
        :files|:directories)
            compopt -o filenames
            [[ $answer == :files ]] && word=-f || word=-d
            mapfile -t COMPREPLY < <(compgen "$word" -- "${COMP_WORDS[COMP_CWORD]#=}")
            ;;
        *)
            while IFS=$'\\t' read -r word description; do
                [[ -n $word ]] && COMPREPLY+=("$word")
            done <<< "$answer"
            ;;
    esac
}
complete -F _quorumlog quorumlog
"""
_ZSH = """\
#compdef quorumlog
# zsh completion of quorumlog. In a file _quorumlog in $fpath, or in ~/.zshrc behind compinit:
# source <(quorumlog completion zsh)
_quorumlog() {
    local line word description
    local -a lines described
    lines=("${(@f)$(${(Q)words[1]} __complete words "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    case $lines[1] in
        :files) compset -P '*='; _files ;;
        :directories) compset -P '*='; _files -/ ;;
        *)
            for line in $lines; do
                word=${${line%%$'\\t'*}//:/\\\\:}
                description=${line#*$'\\t'}
                [[ -n $word ]] && described+=("$word${description:+:$description}")
            done
            (( $#described )) && _describe quorumlog described
            ;;
    esac
}
if [[ $funcstack[1] == _quorumlog ]]; then
    _quorumlog "$@"
else
    compdef _quorumlog quorumlog
fi
"""
_FISH = """\
# fish completion of quorumlog. quorumlog completion fish > ~/.config/fish/completions/quorumlog.fish
function __quorumlog_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines (command $words[1] __complete words $words[2..-1] 2>/dev/null)
    switch "$lines[1]"
        case ':files' ':directories'
            set -l option (string match -r -- '^--[^=]*=' $words[-1])
            set -l path (string replace -- "$option" '' $words[-1])
            if test $lines[1] = ':files'
                printf '%s\\n' "$option"(__fish_complete_path $path)
            else
                printf '%s\\n' "$option"(__fish_complete_directories $path)
            end
        case '*'
            printf '%s\\n' $lines
    end
end
complete -c quorumlog -f -a '(__quorumlog_complete)'
"""
_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}

_DESCRIPTION = """\
Print a script that lets a shell complete commands, options, topics, nodes and profiles. Topics and nodes are
asked of the cluster that -s, the environment or the profile names; what takes longer than a second is left
out.
"""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "completion",
        help="let bash, zsh or fish complete this command",
        description=_DESCRIPTION,
        epilog=examples(
            "source <(quorumlog completion bash)      in ~/.bashrc",
            "source <(quorumlog completion zsh)       in ~/.zshrc, behind compinit",
            "quorumlog completion fish > ~/.config/fish/completions/quorumlog.fish",
        ),
    )
    parser.add_argument("shell", choices=tuple(_SCRIPTS), metavar="SHELL", help="bash, zsh or fish")
    parser.set_defaults(run=_print_script)


def _print_script(options: argparse.Namespace) -> int:
    print(_SCRIPTS[options.shell], end="")
    return 0


def complete(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """Answer a script: ("bash", the line up to the cursor) or ("words", word, ...), one half typed."""
    from quorumlog.command.completing import expected

    if len(arguments) < 2 and arguments[:1] != ["words"]:
        return 0
    how, *given = arguments
    words = _split(given[0])[1:] if how == "bash" else given
    words = words or [""]
    found = expected(parser, words)
    if found.kind in ("files", "directories"):
        print(f":{found.kind}")
        return 0
    looked_up = _look_up(found.kind, found.options) if found.kind else []
    fitting = [(found.prefix + word, "") for word in looked_up]
    lines = [*found.words, *(word for word in fitting if word[0].startswith(words[-1]))]
    # bash replaces only what stands behind the last = or : of a word.
    kept = max(words[-1].rfind("="), words[-1].rfind(":")) + 1 if how == "bash" else 0
    for word, description in lines:
        print(f"{word[kept:]}\t{description}")
    return 0


def _split(line: str) -> list[str]:
    """Return the words of a line as a shell would; the last is empty behind a space."""
    for closing in ("", "'", '"'):  # a quote may still be open
        try:
            words = shlex.split(line + closing)
        except ValueError:
            continue
        return [*words, ""] if not closing and line[-1:].isspace() else words
    return line.split(" ")


def _look_up(kind: str, options: argparse.Namespace) -> list[str]:
    """Return names of a kind; none where they cannot be had at once."""
    from quorumlog.client.errors import QuorumlogError
    from quorumlog.command.connecting import run
    from quorumlog.command.profile_file import load_profiles

    be_quiet(True)
    found: list[str] = []
    try:
        if kind == "profiles":
            return list(load_profiles().by_name)
        run(_ask(kind, options, found))
    except (QuorumlogError, OSError):
        return []  # this is no place to complain
    return found


async def _ask(kind: str, options: argparse.Namespace, found: list[str]) -> int:
    import asyncio

    from quorumlog.command.connecting import client_of

    client = client_of(
        options, connect_timeout_ms=_LOOK_UP_TIMEOUT_MS, request_timeout_ms=_LOOK_UP_TIMEOUT_MS
    )
    async with asyncio.timeout(_LOOK_UP_TIMEOUT_MS / 1000), client:
        if kind == "topics":
            found += [topic.name for topic in await client.list_topics(consistency="committed")]
        else:
            found += [node.node_id for node in (await client.status()).nodes]
    return 0
