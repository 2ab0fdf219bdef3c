// SPDX-License-Identifier: Apache-2.0
// The message ids of all daemons. Each has an entry of the same id in the journal catalog (systemd/understudy.catalog)
// that says what happened and what to do; tools/tidy keeps the two together. A new one: `systemd-id128 new`. An id is
// never used for another message and never changed.
#pragma once

#include "daemon/base/log.h"

namespace understudy {

// --- common to all daemons ---
// Recovered, listening, working.
inline constexpr MessageId kMessageDaemonReady{"91c7ff48d61a4425bfd48f1b1b9877d9"};
// Was told to stop, is finishing what it has begun.
inline constexpr MessageId kMessageDaemonStopping{"8b6b4a6349a442698763253c693fd654"};
// Ended as it was told to.
inline constexpr MessageId kMessageDaemonStopped{"20d7b5eb41664f459271542822db9bdb"};
// Cannot go on, ends with an error.
inline constexpr MessageId kMessageDaemonFailed{"6b1a4211a6114493ac1aefcfcc0e8ba2"};
// A configuration file has mistakes; nothing was started or changed.
inline constexpr MessageId kMessageConfigInvalid{"2ad6b3b8ad764c818414ca216de74d53"};
// The configuration was read again and is in force.
inline constexpr MessageId kMessageConfigReloaded{"2670db0f66de4267bb551dc5245b6ed9"};
// The configuration was read again, but some changes need a restart.
inline constexpr MessageId kMessageConfigReloadIncomplete{"80083a3a6cb04094afe0d8ef969d7630"};
// NOTIFY_SOCKET is set but cannot be used.
inline constexpr MessageId kMessageServiceManagerUnreachable{"b2a4c3e057514704976df2fbebecc6e7"};
// Somebody without the right to asked the control socket.
inline constexpr MessageId kMessageControlRequestRefused{"cc9a99eb0c8e446191823a189d5ea2c3"};
// The control socket stopped working.
inline constexpr MessageId kMessageControlFailed{"964698a081494dba82fcaaf53efb913a"};

// --- agent ---
// A new capture of the disks began.
inline constexpr MessageId kMessageCaptureStarted{"3a8c240b6b084a628883ae78a89acfef"};
// A capture that outlived the agent was taken up again; nothing was missed.
inline constexpr MessageId kMessageCaptureContinued{"5a0b0a0bc23c436cbf2ee92c51b4198a"};
// Completeness cannot be proved any more: new generation, disks are compared or copied again.
inline constexpr MessageId kMessageCaptureUnprovable{"64641048bc234cc3918802652f142a44"};
// Capture was ended for good.
inline constexpr MessageId kMessageCaptureDetached{"1b70d5dab2ef4e8fa77cf2a2409b3595"};
// A disk cannot be captured.
inline constexpr MessageId kMessageCaptureFailed{"069b31fbdd054f198d5b14de73bbb899"};
// A configured disk cannot be protected.
inline constexpr MessageId kMessageDiskRefused{"37ee99797ff64604a273901dcdbfc15f"};
// A protected disk changed its size or vanished.
inline constexpr MessageId kMessageDiskChanged{"1ecbfe30c5d942ef957f3e6c4a180dbd"};
// The disk itself gave an error while it was copied.
inline constexpr MessageId kMessageDiskReadFailed{"ccb3c99619644d9a827d73d19d8be2ad"};
// Full copy or resync began.
inline constexpr MessageId kMessageCopyStarted{"853a9a70af084702a425f519997736bf"};
// Full copy or resync ended: the replica is whole.
inline constexpr MessageId kMessageCopyFinished{"23efca696c8d4702bd6e80de94272e39"};
// The stream lacks writes from here on.
inline constexpr MessageId kMessageGapOpened{"007f66496e2a4d25aceffd4cbb9814b8"};
// The stream is whole again.
inline constexpr MessageId kMessageGapHealed{"5a7d31ce1b104655bd975e886eef01ca"};
// The receiver accepted the session.
inline constexpr MessageId kMessageLinkUp{"b252c1761f0f4f93b0aaef0bc7aed01e"};
// The connection to the receiver is gone, retrying.
inline constexpr MessageId kMessageLinkDown{"efabe839c45d44b7973c9b533b9233a9"};
// The receiver will not have us.
inline constexpr MessageId kMessageLinkRefused{"bba9316290274ab5a6f6b5c8d8ee747e"};
// The receiver reports a condition of its own.
inline constexpr MessageId kMessageLinkNotice{"b9543a6e236646e38c1c277178bfa158"};
// A digest scan, or a round of the scrub, ended.
inline constexpr MessageId kMessageDigestScan{"b15e1500636c4e1cb8195e7cd86b551e"};
// Blocks of the replica are not what the disk holds, though no lost write explains it.
inline constexpr MessageId kMessageDigestDifference{"5c7c878c853641679675206da5151dda"};
// Replication went on to another of its states.
inline constexpr MessageId kMessageReplicationState{"26221ae3c20c4dcb8dd2f2f25bd5c841"};
// Replication is in error; UNDERSTUDY_REASON says which.
inline constexpr MessageId kMessageReplicationError{"3cd5f4cb922e4db8917999a4eb21ceb9"};
// The server got its identity, written to the state directory.
inline constexpr MessageId kMessageIdentityCreated{"b6b1439329da40ca894d0182448f3b8d"};
// A point was marked as it was asked for.
inline constexpr MessageId kMessageMarkMade{"980aa200e6fe403dba90ef6687a0017c"};
// A point that was to be application-consistent is only crash-consistent.
inline constexpr MessageId kMessageMarkNotQuiesced{"d00266ad884e4cdca2374258e3ec9c6b"};
// A point could not be marked.
inline constexpr MessageId kMessageMarkFailed{"8f9de4b76ab741f0ab14c8f235135887"};
// A post hook failed; the mark itself is good.
inline constexpr MessageId kMessageMarkHookFailed{"943473631a3547ea890a54c6a4c6ca7e"};

// --- receiver ---
// An agent was accepted.
inline constexpr MessageId kMessageSessionOpened{"b65697ee07e74e49902799a210705647"};
// An agent's connection ended.
inline constexpr MessageId kMessageSessionClosed{"cbaafd0823de4ae388547e6aa22697a0"};
// An agent, or something else, was turned away.
inline constexpr MessageId kMessageSessionRefused{"e5a59aa9b463429b998cbbe8af42b1ff"};
// A new, empty store was made.
inline constexpr MessageId kMessageStoreCreated{"6543b2ad28434efc8263ae1d08058a10"};
// A store was opened.
inline constexpr MessageId kMessageStoreOpened{"b6e81d9cfaf44c0eac08315a838de4e4"};
// The end of a journal was cut at the last whole batch after a crash; nothing acknowledged was lost.
inline constexpr MessageId kMessageStoreTornTail{"54579c84d90f48b4baad4adf03e94446"};
// Stored bytes are not what was written.
inline constexpr MessageId kMessageStoreDamaged{"243a820f62564a3cb47be0469c143334"};
// The index of a segment could not be written: views take longer to open until it can.
inline constexpr MessageId kMessageStoreIndex{"aa7839cff89448c5b6888bf74007c72d"};
// The store's disk is full: acknowledgements stopped.
inline constexpr MessageId kMessageStoreNoSpace{"3acecd29029c4eefbd48bb65b84f9b9a"};
// There is room again: acknowledgements go on.
inline constexpr MessageId kMessageStoreSpaceAgain{"f8abde73e9514d9d8eefb05c1ecf1183"};
// A write or fsync of the store failed: nothing more is accepted until it is opened again.
inline constexpr MessageId kMessageStoreReadOnly{"98b774edcb864233853624d26e944c0d"};
// A store cannot be opened or written.
inline constexpr MessageId kMessageStoreFailed{"4effe6991dd649879915ef3c4480a323"};

// --- orchestrator ---
// An operation on a server was begun.
inline constexpr MessageId kMessageTaskBegun{"370c6b1fa4a443ab81ee49442698112c"};
// It ended well.
inline constexpr MessageId kMessageTaskDone{"b576b67a32b249ed95d1855cc9c732a4"};
// It failed; it is tried again, later each time.
inline constexpr MessageId kMessageTaskFailed{"0975d72d2cbb4cb5bdf6a2fb98a81aed"};
// An order could not be handed over and waits.
inline constexpr MessageId kMessageTaskDelayed{"f69ed145ff164697b42fed7607cdd4ff"};
// A server or its drill went on to another state.
inline constexpr MessageId kMessageServerState{"a77d4901a8d54abe8b0ec297785da25b"};
// A client reports a state to which nothing leads.
inline constexpr MessageId kMessageReportRefused{"624a23585b4d42c78c419ae4d3ea26d1"};
// New files of groups are in force.
inline constexpr MessageId kMessageDeclarationTaken{"527e4a39266846998b2da4dbdb2c8248"};
// Somebody allowed a step that destroys something.
inline constexpr MessageId kMessageApprovalGiven{"881770db1a0842d29ce2bf48af3051c6"};
// The orchestrator's database, or what it keeps, cannot be used.
inline constexpr MessageId kMessageDatabaseFailed{"4fbd6f67622a4b17af12267a95417992"};

// --- nodes and their orchestrator ---
// A node connected with its orchestrator, or lost it: it goes on with what it was told last.
inline constexpr MessageId kMessageOrchestratorLink{"5531411c6202425796bbc8534a09fa2a"};
// A node does something else from now on, because its orchestrator said so.
inline constexpr MessageId kMessageOrderTaken{"63901c7c4fa944e09963c0dedc0601d0"};
// What the orchestrator ordered could not be carried out.
inline constexpr MessageId kMessageOrderFailed{"2ea8b29735a9466399e195728401c0f4"};
// This agent is of an older epoch than the one granted: it does nothing.
inline constexpr MessageId kMessageSourceFenced{"6cec16178ea74ae1a5baec1de153d774"};
// A node came in.
inline constexpr MessageId kMessageNodeConnected{"f7f0d9c78d1d490daac24f0faf9ecb49"};
// Contact with a node was lost. Nothing follows from that by itself.
inline constexpr MessageId kMessageNodeLost{"540bbbbcce314bd6af50da12743a0636"};
// A connection was turned away.
inline constexpr MessageId kMessageNodeRefused{"3c26a8c31b884178b596463ee3eabea2"};
// A node used its token and got a certificate.
inline constexpr MessageId kMessageNodeEnrolled{"955287dd7cb74279b801fe7aba7d0a25"};
// A token was made with which one node can enrol.
inline constexpr MessageId kMessageTokenMade{"b6b772d4f97d4f5bbf6ffa1865ed207e"};

}  // namespace understudy
