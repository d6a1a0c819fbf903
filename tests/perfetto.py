"""Reads a trace with Perfetto's own types, and prints its slices as JSON lines."""

import collections
import json
import sys

from retrobus_perfetto.proto import perfetto_pb2 as perfetto

BEGIN, END, INSTANT = (
    perfetto.TrackEvent.Type.Value(f"TYPE_{name}")
    for name in ("SLICE_BEGIN", "SLICE_END", "INSTANT")
)


def value(annotation):
    return getattr(annotation, annotation.WhichOneof("value"))


with open(sys.argv[1], "rb") as file:
    trace = perfetto.Trace.FromString(file.read())
tracks = {}
events = []
for number, packet in enumerate(trace.packet):
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        tracks[track.uuid] = (track.name, track.parent_uuid)
    if packet.HasField("track_event"):
        events.append((packet.timestamp, number, packet.track_event))
# As Perfetto does: by time, and what has the same time as it was written.
events.sort(key=lambda event: event[:2])
begun = collections.defaultdict(list)
for time, _, event in events:
    if event.type == END:
        start, first = begun[event.track_uuid].pop()
    elif event.type == BEGIN:
        begun[event.track_uuid].append((time, event))
        continue
    else:
        assert event.type == INSTANT, event
        start, first = time, event
    name, parent = tracks[first.track_uuid]
    print(
        json.dumps(
            {
                "track": name,
                "of": tracks[parent][0] if parent else None,
                "name": first.name,
                "category": first.categories[0],
                "start_ns": start,
                "ns": time - start,
                "depth": len(begun[first.track_uuid]),
                **{note.name: value(note) for note in first.debug_annotations},
            }
        )
    )
assert not any(begun.values()), "a slice without an end"
