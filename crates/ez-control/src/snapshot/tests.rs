//! Tables over the pure part of snapshot building.
