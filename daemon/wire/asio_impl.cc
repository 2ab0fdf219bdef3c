// SPDX-License-Identifier: Apache-2.0
// Boost.Asio's non-template code, compiled once. Everybody who includes Asio is built with
// BOOST_ASIO_SEPARATE_COMPILATION (asio_dep in meson.build).
#include <boost/asio/impl/src.hpp>
