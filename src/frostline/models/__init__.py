"""Networks: scratch CNNs, pretrained backbones, heads."""
