"""The one gRPC service that no published package carries; `*_pb2*` files are generated from the .proto beside them."""
