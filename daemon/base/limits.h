// SPDX-License-Identifier: Apache-2.0
// Every bound that is not configuration, unit last. Whoever adds a queue, buffer, retry or input length names its bound
// here and says what happens when it is reached.
#pragma once

#include <cstddef>
#include <cstdint>

namespace understudy {

// --- configuration files (yaml_config.h) ---
// A longer file is refused: it is not a configuration.
inline constexpr std::size_t kConfigFileBytesMax = 1u << 20;
// Deeper nesting is refused.
inline constexpr int kConfigDepthMax = 16;
// Entries (keys, items, scalars) of one file; more is refused.
inline constexpr std::size_t kConfigNodesMax = 100'000;
// Further errors of one load are counted, not listed.
inline constexpr std::size_t kConfigErrorsMax = 50;

// --- control sockets (control/) ---
// A longer request is answered with an error and the connection is closed.
inline constexpr std::size_t kControlRequestBytesMax = 64u << 10;
// A longer response is a failure on the client's side.
inline constexpr std::size_t kControlResponseBytesMax = 16u << 20;
// More clients at a time wait in the listen queue.
inline constexpr int kControlConnectionsMax = 16;
inline constexpr int kControlBacklog = 16;
// A client that stays silent, or does not take its answer, for longer is disconnected.
inline constexpr int kControlIdleSecondsMax = 30;

// --- nodes and their orchestrator (node/) ---
// A longer message, of a peer that has proved who it is, ends the connection.
inline constexpr std::size_t kNodeFrameBytesMax = 1u << 20;
// The same of one that has not: it wants to enrol.
inline constexpr std::size_t kNodeStrangerFrameBytesMax = 32u << 10;
// Messages that wait for the peer; a peer that lets more pile up is cut off.
inline constexpr std::size_t kNodeOutputBytesMax = 4u << 20;
// Connections of nodes to one orchestrator; and of them, those that have not proved yet who they are. More are closed.
inline constexpr std::size_t kNodeConnectionsMax = 8192;
inline constexpr std::size_t kNodeStrangersMax = 1024;
// How often the orchestrator says something, so that a node knows the connection to be alive.
inline constexpr std::uint64_t kNodePingNs = 10'000'000'000;

// --- the agent's link to its receiver (wire/) ---
// Encoded batches that wait for the socket; at the bound, encoding pauses.
inline constexpr std::uint64_t kLinkEncodedBytesMax = 8u << 20;
// Frame buffers kept for reuse.
inline constexpr std::size_t kLinkSpareFramesMax = 8;
// A socket's send buffer grows up to this while it is what limits a long link (send_buffer.h).
inline constexpr std::uint64_t kLinkSendBufferBytesMax = 64u << 20;
// With at least this many batches waiting and nothing to send, compression is skipped.
inline constexpr std::size_t kLinkBacklogBatches = 4;
// Cached blocks for byte-level deltas of one session, at either end; configuration allows no more.
inline constexpr std::uint64_t kDeltaCacheBytesMax = 4ull << 30;
// Control frames that wait for the socket; a peer that makes us queue more is cut off.
inline constexpr std::size_t kControlFrameBytesMax = 256u << 10;
// Events that nobody polled; acks are merged, so only a flood of notices can get there. It ends the connection.
inline constexpr std::size_t kLinkEventsMax = 1024;

// --- the receiver (receiver/) ---
// Connections that have not said who they are; more are closed at once.
inline constexpr std::size_t kHandshakesMax = 64;
// Received batches of one session that wait for their store; at the bound the socket is not read any more, until it
// is half empty. With many stores each gets its share of the total instead, but not less than the least.
inline constexpr std::size_t kSessionQueueBytesMax = 64u << 20;
inline constexpr std::size_t kSessionQueueBytesMin = 4u << 20;
inline constexpr std::size_t kReceiverQueueBytesMax = 1u << 30;
// Threads that append and commit, for all stores together. They wait for disks most of the time; more stores than this
// take turns.
inline constexpr unsigned kStoreThreads = 16;
// A commit is forced after so much was appended, also when more is waiting.
inline constexpr std::size_t kStoreCommitBytesMax = 32u << 20;
// Large buffers kept for reuse, all sessions together.
inline constexpr std::size_t kReceiverSpareBytesMax = 32u << 20;
// Damage reports of a store that are listed; further ones are counted.
inline constexpr std::size_t kStoreDamagesMax = 20;
// Places of the disks that are lost to damage and asked of the source at a time; the next scrub finds further ones. As
// many as an agent keeps for comparing.
inline constexpr std::size_t kStoreDamagedExtentsMax = 64;
inline constexpr int kReceiverBacklog = 128;

// --- logging ---
// A longer message is cut, with a mark that says so.
inline constexpr std::size_t kLogMessageBytesMax = 64u << 10;

// --- records and batches (record/) ---
// A writer closes a batch before it passes these; a reader refuses a batch that says more, before it allocates.
inline constexpr std::uint32_t kRecordPayloadBytesMax = 8u << 20;
inline constexpr std::uint32_t kBatchPayloadBytesMax = 16u << 20;
inline constexpr std::uint32_t kBatchRecordsMax = 64u << 10;
// Header, a table of kBatchRecordsMax entries and kBatchPayloadBytesMax of payload, stored plain, padding included.
inline constexpr std::uint32_t kBatchEncodedBytesMax = 192u + kBatchRecordsMax * 40u + kBatchPayloadBytesMax + 8u;
// Disks of one server; the same as in capture_abi.h.
inline constexpr std::uint32_t kDisksMax = 64;
// Names of disks and marks, in bytes of UTF-8.
inline constexpr std::size_t kNameBytesMax = 255;
// Why a mark is not what was asked for, in bytes of UTF-8; a longer text is cut.
inline constexpr std::size_t kMarkReasonBytesMax = 1000;
// No extent and no disk ends behind this: 8 EiB less one sector would overflow off_t, 1 EiB is beyond any real disk.
inline constexpr std::uint64_t kDiskBytesMax = 1ull << 60;

// --- source (what stands on a disk) ---
// Block groups of an ext file system whose bitmaps are read: 128 TiB of 4 KiB blocks; a larger one is copied whole.
inline constexpr std::uint64_t kExtGroupsMax = 1u << 20;
// How long a full copy waits to be told what is free; after that it begins with everything, and leaves out the rest of
// what is free when it is told.
inline constexpr std::uint64_t kSurveyWaitNsMax = 60'000'000'000;
// --- marks (replicate/, marks/) ---
// Marks that wait for their place or their acknowledgement; further ones are refused.
inline constexpr std::size_t kPendingMarksMax = 256;
// What is kept of a hook's output; the rest is read and dropped.
inline constexpr std::size_t kHookOutputBytesMax = 4u << 10;
// Hooks of a policy, and file systems that are frozen together; more are a mistake, and a reason not to freeze.
inline constexpr std::size_t kHooksMax = 32;
inline constexpr std::size_t kFrozenFileSystemsMax = 64;

// --- store ---
// Segment files a reader keeps open; the least recently used one is closed for a new one.
inline constexpr std::size_t kOpenSegmentsMax = 64;
// Index files of a store's segments a reader keeps open, likewise.
inline constexpr std::size_t kOpenIndexesMax = 128;
// Merges of segments and runs at a time, in the whole process: each has memory of its own (receiver.yaml, merge).
inline constexpr unsigned kMergesMax = 1;
// Pages of segment indexes kept in memory, all stores of a process together; the least recently used one goes for a
// new one.
inline constexpr std::size_t kIndexCacheBytesMax = 32u << 20;
// A segment is sealed at so many records or batches, also when it is not full: what has to be read to make its index,
// and of the newest segment, which has none, to open a view.
inline constexpr std::uint64_t kSegmentRecordsMax = 256u << 10;
inline constexpr std::uint64_t kSegmentBatchesMax = 32u << 10;
// Frames that wait in memory for commit(); at this size append() writes them out by itself.
inline constexpr std::size_t kAppendBufferBytesMax = 8u << 20;
// Memory of what a view has read and proved of batches and base images: tables, checksums of blocks, and, of a view
// without a spill file, decoded payloads; the least recently used goes for something new.
inline constexpr std::size_t kViewCacheBytesMax = 64u << 20;
// Memory of what a view knows of where a disk's bytes lie; a region beyond is looked up in the indexes again.
inline constexpr std::size_t kViewMapBytesMax = 32u << 20;
// Memory of the checksums of what a view's spill file holds by regions of the disk; enough for 8 GiB.
inline constexpr std::size_t kViewFlatBytesMax = 18u << 20;
// The same for the view at the end of the stream, which a digest scan reads mostly in order.
inline constexpr std::size_t kEndViewCacheBytesMax = 16u << 20;

// --- digest scans (digest/, receiver/) ---
// Questions of one session that wait for an answer; an agent that asks more is cut off.
inline constexpr std::size_t kDigestQuestionsMax = 64;
// Stores whose content is compared at a time, in the whole process; others wait for their turn.
inline constexpr unsigned kDigestThreads = 2;
// One turn of such a comparison: so much is read and hashed, or so many batches of the journal are looked at.
inline constexpr std::uint64_t kDigestSliceBytes = 8u << 20;
inline constexpr std::size_t kDigestSliceBatches = 512;
// What the receiver knows of where its stores' bytes lie, in the whole process; a store beyond is not compared.
inline constexpr std::uint64_t kDigestIndexBytesMax = 1u << 30;

}  // namespace understudy
