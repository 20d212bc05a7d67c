"""Data of a user, read whole or not at all."""

from whyvae.data.codec import Codec
from whyvae.data.dataset import Dataset
from whyvae.data.load import load
from whyvae.data.raw import Column, DataError

__all__ = ["Codec", "Column", "DataError", "Dataset", "load"]
