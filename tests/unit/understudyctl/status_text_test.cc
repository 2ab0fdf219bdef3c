// SPDX-License-Identifier: Apache-2.0
#include "tools/understudyctl/status_text.h"

#include <doctest/doctest.h>

#include <cstdlib>

using namespace understudy;

namespace {

std::string shown(const char* json) {
  ::setenv("TZ", "UTC", 1);
  return status_text(Json::parse(json).value());
}

}  // namespace

TEST_CASE("an agent in real time is shown with its recovery point") {
  CHECK(shown(R"({"server":"web-1","phase":"realtime","connected":true,"receiver":"dr-1","errors":[],
                  "disks":[{"slot":0,"path":"/dev/vdb","size_bytes":1073741824}],
                  "copy_done_bytes":100,"copy_total_bytes":100,"rpo_now_ns":120000000,"rpo_p50_ns":80000000,
                  "rpo_p99_ns":450000000,"backlog_bytes":1258291,"ring_bytes":268435456,
                  "raw_bytes_per_second":52428800,"wire_bytes_per_second":13107200,"losses":{"total":0},
                  "gap_open":false,"last_seq":900,"acknowledged_seq":890,"epoch":1,"generation":2,
                  "wire":{"delta_cache_bytes":1048576,"delta_cache_bytes_max":67108864,"effort":"light",
                          "bandwidth_limit":10485760,"eta_ns":2000000000}})") ==
        "agent of server 'web-1'\n"
        "  phase        realtime\n"
        "  disks        /dev/vdb 1 GiB\n"
        "  behind       120 ms now, median 80 ms, 99 % under 450 ms\n"
        "  receiver     'dr-1', connected\n"
        "  backlog      1.2 MiB of a ring of 256 MiB, done in about 2 s\n"
        "  throughput   50 MiB/s of data, 12.5 MiB/s on the wire\n"
        "  wire         deltas against 1 MiB of at most 64 MiB, only light effort, because encoding is slower than the "
        "link, limited to 10 MiB/s\n"
        "  losses       none\n"
        "  gap          none\n"
        "  stream       seq 890 acknowledged of 900, epoch 1, generation 2\n");
}

TEST_CASE("an agent in its first copy shows progress and no recovery point") {
  const std::string text = shown(R"({"phase":"full-copy","copy_done_bytes":1073741824,"copy_total_bytes":4294967296,
                                     "gap_open":true,"gap_reason":"initial-copy",
                                     "gap_since_time_ns":1700000000000000000,
                                     "losses":{"total":3,"ring_full":2,"skipped":1}})");
  CHECK(text.find("agent\n") == 0);
  CHECK(text.find("  copy         [#######.......................]  25.0 %  1 GiB of 4 GiB\n") != std::string::npos);
  CHECK(text.find("  behind       none yet: the first copy has not ended\n") != std::string::npos);
  CHECK(text.find("  losses       3 writes went to the dirty map (ring full 2, capture skipped 1)\n") !=
        std::string::npos);
  CHECK(text.find("  gap          initial-copy, since 2023-11-14 22:13:20.000\n") != std::string::npos);
  CHECK(text.find("  receiver     not connected\n") != std::string::npos);
}

TEST_CASE("a copy of existing data says what it leaves out, how long it takes, and what was found on the disks") {
  const std::string text = shown(R"({"phase":"full-copy","copy_done_bytes":1073741824,"copy_total_bytes":4294967296,
                                     "copy_left_out_bytes":8589934592,"copy_left_ns":90000000000,
                                     "findings":[{"code":"low-free-space","text":"'/dev/vda1' is full",
                                                  "advice":"keep 15 % free"},
                                                 {"code":"not-left-out","text":"'/dev/vda2' is dirty","advice":""}]})");
  CHECK(text.find("25.0 %  1 GiB of 4 GiB, about 1 min 30 s left\n") != std::string::npos);
  CHECK(text.find("  left out     8 GiB of free space\n") != std::string::npos);
  CHECK(text.find("  finding      '/dev/vda1' is full; keep 15 % free\n  finding      '/dev/vda2' is dirty\n") !=
        std::string::npos);
}

TEST_CASE("errors that hold now are shown, each on its line, and cannot steer the terminal") {
  const std::string text = shown(R"({"phase":"error","errors":["disk '/dev/vdb' is gone","a\u001b[2J"]})");
  CHECK(text.find("  error        disk '/dev/vdb' is gone\n  error        a\\x1b[2J\n") != std::string::npos);
}

TEST_CASE("the scrub of a store: under way, over, ended early") {
  const auto store = [](const std::string& scrub) {
    return shown((R"({"program":"understudy-receiver","stores":[{"server":"web-1","scrub":)" + scrub + "}]}").c_str());
  };
  CHECK(store(R"({"running":true,"done_bytes":1,"total_bytes":4,"damages_total":0,"damages":[]})")
            .find(" 25.0 %, no damage so far\n") != std::string::npos);
  const std::string over = store(
      R"({"running":false,"last_end_time_ns":1700000000000000000,"damages_total":1,"damages":["'x.wal' at byte 7"]})");
  CHECK(over.find("  scrub        1 damaged place, all read until ") != std::string::npos);
  CHECK(over.find("  damage       'x.wal' at byte 7\n") != std::string::npos);
  CHECK(over.find("  lost ") == std::string::npos);
  CHECK(store(R"({"damaged_points":"from seq 3 to seq 5",
                  "damaged_extents":[{"length_bytes":4096},{"length_bytes":512}]})")
            .find("  lost         points from seq 3 to seq 5, the newest 4.5 KiB, to be copied anew\n") !=
        std::string::npos);
  CHECK(store(R"({"damaged_points":"from seq 3 to seq 5","damaged_extents":[]})")
            .find("  lost         points from seq 3 to seq 5; later ones do not need what is damaged\n") !=
        std::string::npos);
  CHECK(store(R"({"last_error":"scrub: stopped"})").find("did not come to the end: scrub: stopped") !=
        std::string::npos);
  CHECK(store(R"({"running":false,"last_end_time_ns":0})").find("scrub") == std::string::npos);
}

TEST_CASE("a receiver is shown store by store") {
  const std::string text = shown(
      R"({"program":"understudy-receiver","name":"dr-1","port":7600,"stores":[
           {"server":"web-1","state":"open","reason":"","directory":"/srv/web-1","durable_seq":77,"gap_open":false,
            "initial_copy_done":true,"newest_record_time_ns":1700000000000000000,"journal_bytes":1048576,
            "base_bytes":0,"disks":[{"name":"/dev/vdb","size_bytes":1073741824}],
            "peer":{"address":"10.0.0.5:4711","paused":true},"damages":["x.wal"],"last_error":"disk full"}]})");
  CHECK(text ==
        "receiver 'dr-1', port 7600, 1 store\n\n"
        "store of server 'web-1'\n"
        "  state        open\n"
        "  directory    /srv/web-1\n"
        "  agent        connected from 10.0.0.5:4711, paused\n"
        "  durable      seq 77, newest write of 2023-11-14 22:13:20.000\n"
        "  gap          none\n"
        "  size         1 MiB journal, 0 B base\n"
        "  disks        /dev/vdb 1 GiB\n"
        "  damage       x.wal\n"
        "  last error   disk full\n");
}

TEST_CASE("any answer can be shown, whatever it lacks") {
  CHECK(shown("{}").find("agent\n") == 0);
  CHECK(shown(R"({"stores":[{}]})").find("receiver '', port 0, 1 store") == 0);
  CHECK(shown(R"({"phase":5,"losses":[],"errors":"x","rpo_now_ns":"x"})").find("agent\n") == 0);
}

TEST_CASE("a bar is full only when all is done") {
  CHECK(progress_bar(0, 10) == "[..............................]   0.0 %");
  CHECK(progress_bar(99'999, 100'000) == "[#############################.]  99.9 %");
  CHECK(progress_bar(10, 10) == "[##############################] 100.0 %");
  CHECK(progress_bar(0, 0) == "[##############################] 100.0 %");
  CHECK(progress_bar(20, 10) == "[##############################] 100.0 %");
}
