"""The `quorumlog` command: what is typed in a shell, on top of the client.

    main.py         the parser of all commands, and the exit codes; parser.py: how help looks
    connecting.py   --servers and the like: flag, environment, profile, default
    output.py       results as tables, JSON, YAML; everything else to stderr; confirming.py, progress.py

One file for each command, or group of commands, with what stands behind it:

    topic.py
    produce.py      line_producer.py, lines.py
    consume.py      and tail; printing.py
    cluster.py      status; members.py: who takes part and who leads; cluster_notes.py: a node in words
    top.py          watching.py asks every node all the time; top_view.py: what is shown, from look to look
                    (no I/O); top_screen.py: as a screen
    doctor.py       examining.py collects evidence; checkup.py: what follows from it   no I/O
    bench.py        loading.py puts load on a cluster; bench_load.py: plan and figures (no I/O); histogram.py
    local.py        three nodes on this machine: local_nodes.py, local_certs.py; trial.py tries them with
                    local_input.py
    certs.py        authority.py: a development authority and what it signs
    profile.py      profiles.py: clusters by name; profile_file.py: where they are kept
    completion.py   completing.py: what fits   no I/O
    health.py, verify.py

    offset_ranges.py, templates.py, record_format.py, input_format.py   the grammars of options   no I/O

Nothing but argparse is loaded before a command runs: container engines run `quorumlog health` every few
seconds. A node is another process (`quorumlog serve`): nothing of it is imported.
"""
