"""Speed, side by side: each method beside its bare U-Net calls and beside diffusers."""
