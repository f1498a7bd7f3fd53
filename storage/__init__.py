"""One segmented log on one disk, and the views that map offsets to its bytes.

What it guarantees
------------------
- An entry that `durable_index` covers survives a kill and a power loss, at any moment.
- Bytes that are read are what was appended, or `Damaged` is raised. Nothing bad is served, nothing good is
  cut: what a crash tore is told from what a disk spoiled.
- A full disk is an error that leaves everything as it was. A failed sync ends the log for good.
- Replicas that append the same frames have the same files, byte for byte, but for the synced slots.
- Opening takes as long as the last segment needs, however many there are; reading needs no lock.

It knows nothing of Raft, gRPC or asyncio: an entry is an index, a term, a kind and a payload.

How the parts fit
-----------------
    Log ─┬─ ActiveSegment: the last one, appended to     ┬─ Store      the frames       <base>.log
         │                                               ├─ Index      entry -> place   <base>.index
         │                                               └─ Watermark  durable up to    in the .log's header
         ├─ SealedSegments: the others, opened lazily
         ├─ Spare: the next one, preallocated
         ├─ Fences: sealed files that are not what was written, until they are repaired
         ├─ DerivedFiles: views and states               <base>.view, <base>.state
         └─ Views: offset -> batch, over all segments

    format.py     every byte on disk, drawn (docs/storage-format.md has an example)
    errors.py     the tree, by what the caller can do
    files.py      the seam to the file system; tests/support/simulated_disk.py is its fake twin
    frame.py      an entry as bytes; header.py, manifest.py, state.py, view.py: the other formats
    reader.py     what Log has for readers in other threads; options.py: sizes
    scan.py       finding the end of a log; recovery.py: opening the last segment; opening.py: the directory
    ticket.py     a sync in another thread; drop.py, install.py: retention, and a new beginning, likewise
    check.py      a sealed file, compared with all that it can be compared with; scrub.py: all of them
    fences.py     what damage was met; copy.py: a sealed file on its way into a damaged one's place

A segment's life
----------------
It begins with an entry that carries STARTS_SEGMENT (a leader asks `should_roll`), so it begins at the same
entry on every replica. It takes appends, one write for each run of frames. When the next begins it is
trimmed and synced, and never written again. When all of it is committed and applied, `seal` writes its view
and the state that the next one begins with. When retention has passed it, its files go as one.

The order of disk operations; each step is durable before the next
------------------------------------------------------------------
    roll       header of the spare files -> trim, sync the old segment -> rename -> directory
    seal       view (tmp, sync, rename, directory) -> state (likewise)
    truncate   lower the watermark -> unlink later segments, newest first, one by one -> cut -> append
    retention  manifest -> unlink, oldest first -> directory
    install    state, new segment (tmp, sync) -> flagged manifest -> unlink the old -> rename -> manifest
    close      trim, sync -> index -> the slot that says so
    repair     copy (tmp), checked, sync -> rename -> directory
    open       lock -> manifest -> names -> scan the last segment -> cut -> sync, drop from the cache, read
               again -> only then is it durable

So only the last segment can be torn, and its watermark says up to where it cannot be.

What the watermark cannot do: it trails by one sync. Of the entries that the very last sync before a crash
made durable, a spoiled one is taken for torn and cut. A sync on an idle log (it has nothing to write but the
slot) closes that window, and so does a clean stop.

Left out on purpose
-------------------
- Memory maps for the frames: an I/O error under a map kills the process, and mapped data counts as memory.
- An index that is synced: it holds nothing that the log does not. It is checked, and remade if need be.
- Fetching: damage is fenced and reported; getting a copy of a sealed file is for the layers above.
- When to sync (`always`, `interval`, `os`): the engine decides; the log only says what is durable.
- Rewriting segments (the cleaner) and encryption: the formats have their fields.
"""
