// SPDX-License-Identifier: Apache-2.0
#include "daemon/control/json.h"

#include <doctest/doctest.h>

#include <limits>

using namespace understudy;

TEST_CASE("values are built and printed in the order in which they were set") {
  Json status;
  status["phase"] = "realtime";
  status["seq"] = std::numeric_limits<std::uint64_t>::max();
  status["offset"] = std::int64_t{-5};
  status["rpo_ms"] = 1.5;
  status["ok"] = true;
  status["gap"] = Json();
  status["disks"] = Json::array();
  status["link"]["peer"] = "dr-1";
  status["disks"].push_back("/dev/vdb");
  CHECK(status.dump().find(R"({"phase":"realtime","seq":18446744073709551615,"offset":-5,"rpo_ms":)") == 0);
  CHECK(status.dump().find(R"("ok":true,"gap":null,"disks":["/dev/vdb"],"link":{"peer":"dr-1"}})") !=
        std::string::npos);
  CHECK(status["seq"].as_unsigned(0) == std::numeric_limits<std::uint64_t>::max());
}

TEST_CASE("what is printed is read back equal") {
  const char* text = R"({"a":[1,-2,3.5,"x\n\"y\u0001",true,false,null,{}],"b":{"c":18446744073709551615}})";
  const Json value = Json::parse(text).value();
  CHECK(Json::parse(value.dump()).value() == value);
  CHECK(Json::parse(value.dump_indented()).value() == value);
  CHECK(value.at("a").items()[3].as_string("") == "x\n\"y\x01");
}

TEST_CASE("readers take any shape and fall back") {
  const Json value = Json::parse(R"({"n":7,"s":"x","neg":-1,"d":2.5})").value();
  CHECK(value.at("n").as_unsigned(0) == 7);
  CHECK(value.at("n").as_double(0) == 7.0);
  CHECK(value.at("neg").as_unsigned(9) == 9);
  CHECK(value.at("d").as_unsigned(9) == 9);
  CHECK(value.at("s").as_bool(true));
  CHECK(value.at("none").at("deeper").is_null());
  CHECK(value.at("s").items().empty());
  CHECK(value.items().empty());
}

TEST_CASE("what is no JSON is refused") {
  for (const char* text : {"", "{", "{\"a\":}", "[1,]", "nul", "{} {}", "\"\xff\"", "'x'"}) {
    CAPTURE(text);
    const auto value = Json::parse(text);
    REQUIRE_FALSE(value.ok());
    CHECK(value.error().kind() == ErrorKind::kInvalidArgument);
  }
  CHECK_FALSE(Json::parse(std::string(1000, '[') + std::string(1000, ']')).ok());
}

TEST_CASE("text that is no UTF-8 does not spoil the document") {
  Json value;
  value["name"] = std::string("disk\xff");
  CHECK(Json::parse(value.dump()).value().at("name").as_string("") == "disk\\xff");
  Json figure = std::numeric_limits<double>::infinity();
  CHECK(figure.dump() == "null");
}
