"""The built-in object spotter: it names the ImageNet classes that it recognises in frames."""
