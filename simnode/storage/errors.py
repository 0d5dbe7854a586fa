"""What can go wrong with bytes at rest. Enters: nothing. Leaves: the exceptions. Next: `segment_file.py`.

StorageError
├── OutOfBudget         the node's own limits say no: refuse the message, keep the connection
│   └── OverShare       so does the share of one remote host
├── OutOfSpace          the filesystem is full: the same answer, but an operator should know
├── SegmentGone         the name no longer names a segment: look the row up again
├── SegmentFailure      the system does not open, map, lock, read or write a segment: a broken disk, say
│   └── OutOfDescriptors  the process, or the machine, has no file descriptor or mapping left
├── DirectoryInUse      another living process owns it (the operator's fault, or it is about to die)
├── NotADataDirectory   there is something else than a node's data (the operator's fault)
├── UnsuitableFilesystem  it lacks what a node needs: locks, mappings, allocation (the operator's fault)
├── DataDamaged         a file of the data is missing, or is not what it was; the text says what to do
├── UnknownSegment      the pool was told about a segment it does not have in that condition (the caller's fault)
└── IndexFailure        LMDB said no: the disk's or the operator's fault
    ├── IndexFull       no room for the batch; nothing of it was written
    ├── IndexMissing    nobody has created the index yet
    └── IndexDamaged    a format or a row that this version cannot read
"""

from __future__ import annotations


class StorageError(Exception):
    """Root of everything `simnode.storage` raises on purpose."""


class OutOfBudget(StorageError):
    """A limit of the node would be passed; the text says which, and by how much."""


class OverShare(OutOfBudget):
    """One remote host would have more of the budget than its share."""


class OutOfSpace(StorageError):
    """The filesystem (or a quota, or a file size limit) has no room for a segment."""


class SegmentGone(StorageError):
    """No such segment, or another one by now. Its only argument is the name."""


class SegmentFailure(StorageError):
    """The operating system refused something about a segment; the text, which has a path in it, is for the log."""


class OutOfDescriptors(SegmentFailure):
    """No file descriptor, or no mapping, is left: it may work once others are given up."""


class DirectoryInUse(StorageError):
    """A directory that only one process may own has an owner."""


class NotADataDirectory(StorageError):
    """A path that is to be a data directory and has something else in it, or is none at all."""


class UnsuitableFilesystem(StorageError):
    """The filesystem of a directory cannot do what every node needs; the text names both."""


class DataDamaged(StorageError):
    """A file of a data directory is damaged or missing.

    The text is one line: which file, what is wrong with it, and what to do. Nothing was changed.
    """


class UnknownSegment(StorageError):
    """The pool has no segment of this name in the condition that the call needs."""


class IndexFailure(StorageError):
    """The index could not be read or written."""


class IndexFull(IndexFailure):
    """A batch did not fit; none of it was written."""


class IndexMissing(IndexFailure):
    """There is no index at this path, and this process may not create one."""


class IndexDamaged(IndexFailure):
    """The index holds something that this version of simnode cannot read."""
