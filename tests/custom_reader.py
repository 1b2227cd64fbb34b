"""A file format of one's own, outside the package: numbers as text, blank lines between images."""

from collections.abc import Iterator

import numpy as np

from restill.io import File, Format, Header, Image, ImageReader


class TextImages(ImageReader, kind="test-text-images"):
    suffixes = (".rows",)

    def header(self, file: File) -> Header:
        images = list(self.frames(file))
        height, width = images[0].shape[1:]
        return Header(Format((1, height, width), "float"), len(images))

    def frames(self, file: File) -> Iterator[Image]:
        file.stream.seek(0)
        for block in file.stream.read().decode().split("\n\n"):
            yield np.array([[float(word) for word in row.split()] for row in block.splitlines()], np.float32)[None]
